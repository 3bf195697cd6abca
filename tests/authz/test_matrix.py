"""Who may do what: the committed matrix of roles and coordinates, and that it is what Casbin decides.

After a change of policy, ``python -m tests.authz.test_matrix`` writes the matrix anew; its diff is the review.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from authz.coordinates import Act
from authz.grants import Grants, compile_grants
from authz.policies import Effect, Policies, load_policies, validate
from authz.principal import ROOT_PATH
from authz.scopes import Scope
from server.app import POLICIES, the_catalog
from server.doors import load_doors
from tests.support.conformance import assert_conformance
from tests.support.matrix import printed

MATRIX = Path(__file__).with_name("matrix.txt")
BELOW = ".0001.0002."
"""The place of a customer: just below the platform."""
DEEPER = ".0001.0002.0003."
POLICY = load_policies(POLICIES)
ROLES = ["anybody", *sorted({role for door in load_doors().values() for role in door.rules.admission.roles})]
"""Everybody's role, and all that somebody can hold at a door."""
HEAD = """\
What each built-in role may do where it is held: a platform role at the platform, the others in a customer below it.
A all rows, B own branch, T own tenant, P what those above publish, o one's own, D own department and below,
d own department, . nothing.
A coordinate with ! is confidential: no wildcard grants it.
"""


def place(role: str) -> str:
    """Where somebody holds the role. An end user and a visitor stand at the root, with no rows of a tenant."""
    return ROOT_PATH if role.startswith(("platform", "bank")) or role in ("anybody", "end_user") else BELOW


def grants(role: str, policies: Policies = POLICY) -> Grants:
    return compile_grants(policies, the_catalog(), [role], place(role))


def matrix() -> str:
    """One row for each coordinate, one column for each role."""
    held = {role.replace("platform_", "").replace("_admin", ""): grants(role) for role in ROLES}
    return printed(HEAD, sorted(the_catalog(), key=lambda one: one.name), held)


def test_the_committed_matrix_is_what_the_policies_say() -> None:
    """Regenerate with ``python -m tests.authz.test_matrix``."""
    assert MATRIX.read_text("utf-8") == matrix()


def test_no_policy_speaks_in_vain() -> None:
    assert validate(POLICY, the_catalog()) == []


def test_every_coordinate_is_granted_to_somebody() -> None:
    """What nobody may use is a mistake: the administrator has everything by one line, the confidential by name."""
    held = {role: grants(role) for role in ROLES}
    idle = {
        coordinate.name
        for coordinate in the_catalog()
        if not any(one.allows(coordinate.type, coordinate.field, coordinate.act) for one in held.values())
    }
    assert idle == set()


def test_the_confidential_is_granted_by_name_only() -> None:
    confidential = {coordinate.name for coordinate in the_catalog() if coordinate.confidential}
    assert confidential == {
        "Agent.incomeBalance", "Agent.remark", "Agent.totalIncome", "Agent.withdrawableIncome",
        "DailyStatistic.downloadBytes", "DailyStatistic.uploadBytes", "DailyUsage.rawUsedKb",
        "EndUser.emailUnmasked", "EndUser.phoneUnmasked", "Enterprise.remark", "ImpersonateInput.write",
        "LoginRecord.loginUnmasked",
        "ItemOrder.balanceAfter", "ItemOrder.buyerNameUnmasked", "ItemOrder.buyerPhoneUnmasked",
        "Merchant.availableAmount", "Merchant.depositHeld", "Merchant.depositMissing", "Merchant.depositRequired",
        "Merchant.funds", "Merchant.remark", "MerchantOperator.remark", "MonthlyStatistic.downloadBytes",
        "MonthlyStatistic.uploadBytes", "MonthlyUsage.rawUsedKb", "Notification.addressUnmasked",
        "OperationRecord.arguments", "Order.balanceAfter", "PackageOrder.balanceAfter", "Platform.remark",
        "RenewalOrder.balanceAfter", "RenewalOrder.phoneUnmasked", "SessionRecord.downloadBytes",
        "SessionRecord.uploadBytes", "SimCard.iccid", "StaffAccount.phoneUnmasked", "Task.resultFileUrl",
        "Tenant.remark", "Withdrawal.bankAccountUnmasked",
    }  # fmt: skip
    wildcards = tuple(line for line in POLICY.lines if line.eft is Effect.ALLOW and line.obj.endswith("*"))
    assert len(wildcards) > 10
    for role in ROLES:
        reached = grants(role, Policies(wildcards, POLICY.roles)).reach
        assert confidential & {f"{type}.{field}" for type, field, _ in reached} == set(), role
    holders = {
        one.name: [role for role in ROLES if grants(role).allows(one.type, one.field, one.act)]
        for one in the_catalog()
        if one.confidential
    }
    platform = ["platform_admin", "platform_finance", "platform_operations", "platform_sales"]
    customers = ["agent_admin", "enterprise_admin"]
    staff = [role for role in ROLES if role not in ("anybody", "end_user", "partner", "partner_buyer")]
    assert holders == {
        "Agent.incomeBalance": [*customers, *platform],
        "Agent.remark": platform,
        "Agent.totalIncome": [*customers, *platform],
        "Agent.withdrawableIncome": [*customers, *platform],
        "ItemOrder.balanceAfter": ["platform_admin", "platform_finance"],
        "ItemOrder.buyerNameUnmasked": ["merchant_admin", "platform_admin"],
        "ItemOrder.buyerPhoneUnmasked": ["merchant_admin", "platform_admin"],
        "Merchant.availableAmount": ["bank_deposit", "merchant_admin", "platform_admin", "platform_finance"],
        **{
            f"Merchant.deposit{figure}": [
                "bank_deposit",
                "merchant_admin",
                "merchant_operator",
                "platform_admin",
                "platform_finance",
            ]
            for figure in ("Required", "Held", "Missing")
        },
        "Merchant.funds": ["merchant_admin", "platform_admin", "platform_finance"],
        "Merchant.remark": platform,
        "MerchantOperator.remark": platform,
        "Withdrawal.bankAccountUnmasked": ["agent_admin", "merchant_admin", "platform_admin", "platform_finance"],
        **{
            f"{name}.{way}Bytes": platform
            for name in ("DailyStatistic", "MonthlyStatistic", "SessionRecord")
            for way in ("download", "upload")
        },
        "DailyUsage.rawUsedKb": platform,
        "MonthlyUsage.rawUsedKb": platform,
        "Enterprise.remark": platform,
        "Platform.remark": platform,
        "Tenant.remark": ["platform_admin"],
        "Notification.addressUnmasked": staff,
        "Order.balanceAfter": ["platform_admin"],
        "PackageOrder.balanceAfter": [*customers, "platform_admin", "platform_finance"],
        "RenewalOrder.balanceAfter": [*customers, "platform_admin", "platform_finance"],
        "RenewalOrder.phoneUnmasked": ["end_user", "platform_admin"],
        "EndUser.emailUnmasked": ["end_user", "platform_admin"],
        "EndUser.phoneUnmasked": ["end_user", "platform_admin"],
        "ImpersonateInput.write": ["platform_admin"],
        "LoginRecord.loginUnmasked": [role for role in ROLES if role in (*staff, "end_user")],
        "OperationRecord.arguments": ["platform_admin"],
        "SimCard.iccid": platform,
        "StaffAccount.phoneUnmasked": staff,
        "Task.resultFileUrl": [role for role in ROLES if role not in ("anybody", "end_user")],
    }


def test_a_platform_role_opens_nothing_of_the_platform_elsewhere() -> None:
    """Held in a customer's tenant by mistake, it gives what every member of staff has."""
    staff = compile_grants(POLICY, the_catalog(), ["staff"], BELOW)
    for role in ROLES:
        if role.startswith(("platform", "bank")):
            assert compile_grants(POLICY, the_catalog(), [role], BELOW).reach == staff.reach, role


@pytest.mark.parametrize("path", [ROOT_PATH, BELOW, DEEPER])
def test_grants_are_what_casbin_decides(path: str) -> None:
    """Every role at every coordinate with every scope, also where the role is not meant to be held."""
    asked = assert_conformance(POLICY, the_catalog(), ROLES, path)
    assert asked == len(the_catalog()) * (len(ROLES) + 1) * (len(Scope) + len(Act))


if __name__ == "__main__":
    MATRIX.write_text(matrix(), "utf-8")
