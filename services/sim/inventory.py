"""Cards entering the inventory one by one, and the tasks by which many enter at once (S0-02, S0-03, S0-05)."""

from __future__ import annotations

from dataclasses import dataclass

from models.catalog import Carrier, CatalogStatus, DataPackage, Supplier
from models.sim import SimCard, SimEntryMode, SimPackageBinding, SimType
from models.system import FilePurpose, Task, TaskKind
from services import validation
from services.conflicts import told_apart
from services.files import Stored, keeping
from services.identity import tenant_for
from services.refusal import Refusal
from services.runtime import Work
from services.sim import numbers
from services.tasks.opening import open_task


@dataclass(frozen=True)
class Entry:
    """What all cards of one entry share."""

    sim_type: SimType
    supplier_id: int
    package_id: int | None
    apn: str | None


async def _checked(work: Work, entry: Entry, carrier: Carrier) -> None:
    """The supplier and the package exist, are in use, and are of the cards' carrier."""
    supplier = await work.found(Supplier, entry.supplier_id, field="supplier")
    if supplier.status is not CatalogStatus.ACTIVE:
        raise Refusal("NOT_ACTIVE", "supplier", value=supplier.name)
    if supplier.carrier not in (None, carrier):
        raise Refusal("SUPPLIER_CARRIER", "supplier", value=supplier.name)
    if entry.package_id is not None:
        package = await work.found(DataPackage, entry.package_id, field="package")
        if package.status is not CatalogStatus.ACTIVE:
            raise Refusal("NOT_ACTIVE", "package", value=package.code)
        if package.carrier is not carrier:
            raise Refusal("PACKAGE_CARRIER", "package")


async def create_card(
    work: Work, entry: Entry, *, iccid: str, imsi: str | None, msisdn: str | None, remark: str | None
) -> SimCard:
    """One card (S0-02). TAKEN where its ICCID or IMSI is in the inventory, or what is wrong with the ICCID."""
    number, carrier = numbers.checked(iccid, "iccid")
    await _checked(work, entry, carrier)
    tenant = await tenant_for(work, None)
    for field, value in (("imsi", imsi), ("msisdn", msisdn)):
        if value is not None and not (value.isascii() and value.isdigit() and 5 <= len(value) <= 20):
            raise Refusal("NOT_DIGITS", field)
    card = SimCard(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        iccid=number,
        imsi=imsi,
        msisdn=msisdn,
        carrier=carrier,
        sim_type=entry.sim_type,
        entry_mode=SimEntryMode.SINGLE,
        supplier_id=entry.supplier_id,
        package_id=entry.package_id,
        apn=validation.optional(entry.apn, "apn", limit=64),
        remark=validation.optional(remark, "remark", limit=2_000),
    )
    work.session.add(card)
    async with told_apart(
        work.session, {"uq_sim_card_iccid": ("iccid", number), "uq_sim_card_imsi": ("imsi", imsi or "")}
    ):
        await work.session.flush()
    if entry.package_id is not None:
        work.session.add(
            SimPackageBinding(
                tenant_id=tenant.id, tenant_path=tenant.path, sim_card_id=card.id, package_id=entry.package_id
            )
        )
    return card


async def start_range(work: Work, entry: Entry, *, first: str, last: str, with_check_digit: bool) -> Task:
    """A task that enters a range of ICCIDs (S0-03)."""
    first, last, carrier, size = numbers.check_range(first, last, with_check_digit=with_check_digit)
    await _checked(work, entry, carrier)
    task = await open_task(
        work,
        TaskKind.SIM_RANGE,
        {
            "first": first,
            "last": last,
            "with_check_digit": with_check_digit,
            "sim_type": entry.sim_type.name,
            "supplier_id": entry.supplier_id,
            "package_id": entry.package_id,
            "apn": validation.optional(entry.apn, "apn", limit=64),
        },
        name=f"{first}-{last}",
    )
    task.total = size
    return task


async def start_import(work: Work, stored: Stored, name: str, content_type: str) -> Task:
    """A task that imports a spreadsheet (S0-05)."""
    source = await keeping.record(work, stored, name[:200], content_type[:100], FilePurpose.SPREADSHEET)
    return await open_task(work, TaskKind.SIM_IMPORT, {"filename": name[:200]}, name=name[:200], source=source)
