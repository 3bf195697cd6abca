"""Merchants: their list, the types of them that there are, and how they are taken on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Select, select

import models.merchants as stored
from planner.ids import encode_id
from planner.mapping import Connection, refer
from planner.registry import loads, mutation, query
from resolvers.context import Context, given, key_of
from schema.merchants import (
    CreateMerchantInput,
    CreateMerchantOperatorInput,
    CreateMerchantTypeInput,
    Merchant,
    MerchantFormField,
    MerchantFormFieldInput,
    MerchantOperatorPayload,
    MerchantPayload,
    MerchantType,
    MerchantTypePayload,
    OnboardingAnswer,
    OnboardingApplication,
    OnboardingDocument,
    OnboardingInput,
    OnboardingPayload,
    RejectOnboardingInput,
    SaveOnboardingInput,
    SetMerchantStatusInput,
    UpdateMerchantInput,
    UpdateMerchantTypeInput,
)
from services import merchants as service
from services import tenancy


@query(Connection[Merchant])
def merchants() -> Select[stored.Merchant]:
    """Merchants within reach: all for the platform, for an operator those that it operates (S4-57, S4-75)."""
    return select(stored.Merchant)


@query(Merchant, by=("id",))
def merchant() -> Select[stored.Merchant]:
    """One merchant (S4-57)."""
    return select(stored.Merchant)


@query(Connection[MerchantType])
def merchant_types() -> Select[stored.MerchantType]:
    """The sorts of merchants, with what each is asked (S4-59, S4-60)."""
    return select(stored.MerchantType)


@query(Connection[OnboardingApplication])
def onboarding_applications() -> Select[stored.OnboardingApplication]:
    """What merchants told of themselves to be taken on: one's own, all for those who decide (S4-02)."""
    return select(stored.OnboardingApplication)


@query(OnboardingApplication, by=("id",))
def onboarding_application() -> Select[stored.OnboardingApplication]:
    """One application (S4-02)."""
    return select(stored.OnboardingApplication)


@loads(MerchantType, "form_fields")
async def form_fields(ctx: Context, rows: Sequence[Any]) -> list[list[MerchantFormField]]:
    return [[MerchantFormField(**one) for one in orjson.loads(row.form_fields)] for row in rows]


@loads(OnboardingApplication, "answers")
async def answers(ctx: Context, rows: Sequence[Any]) -> list[list[OnboardingAnswer]]:
    return [
        [OnboardingAnswer(key=key, value=value) for key, value in orjson.loads(row.answers).items()] for row in rows
    ]


@loads(OnboardingDocument, "url")
async def urls(ctx: Context, rows: Sequence[Any]) -> list[str]:
    files = ctx.runtime.files
    return [f"/files/{encode_id('fil', row.file_id)}?{files.sign(row.file_id)}" for row in rows]


@mutation
async def create_merchant(ctx: Context, input: CreateMerchantInput) -> MerchantPayload:
    """Enters a merchant directly below the caller, with its first account where one is given (S4-57)."""
    made = await tenancy.create_merchant(ctx.now, input.profile, input.account)
    return MerchantPayload(merchant=refer(made.id), errors=[])


@mutation
async def create_merchant_operator(ctx: Context, input: CreateMerchantOperatorInput) -> MerchantOperatorPayload:
    """Enters a company that operates merchants, with its first account where one is given (S4-75)."""
    made = await tenancy.create_merchant_operator(ctx.now, input.profile, input.account)
    return MerchantOperatorPayload(merchant_operator=refer(made.id), errors=[])


@mutation
async def update_merchant(ctx: Context, input: UpdateMerchantInput) -> MerchantPayload:
    """Changes what is known of a merchant within reach (S4-57)."""
    changed = await service.update(ctx.now, key_of(input.id, "ten", "id"), given(input))
    return MerchantPayload(merchant=refer(changed.id), errors=[])


@mutation
async def set_merchant_status(ctx: Context, input: SetMerchantStatusInput) -> MerchantPayload:
    """Suspends a merchant from its next request on, or lets it do business again (S4-57)."""
    changed = await service.set_status(ctx.now, key_of(input.id, "ten", "id"), input.status)
    return MerchantPayload(merchant=refer(changed.id), errors=[])


@mutation
async def create_merchant_type(ctx: Context, input: CreateMerchantTypeInput) -> MerchantTypePayload:
    """Offers a new sort of merchant (S4-59, S4-60)."""
    made = await service.create_type(
        ctx.now,
        code=input.code,
        name=input.name,
        form_fields=_fields(input.form_fields),
        required_documents=input.required_documents,
        page_variant=input.page_variant,
    )
    return MerchantTypePayload(merchant_type=refer(made.id), errors=[])


@mutation
async def update_merchant_type(ctx: Context, input: UpdateMerchantTypeInput) -> MerchantTypePayload:
    """Changes what a sort of merchant is asked, or offers it no more (S4-59, S4-60)."""
    changes = given(input)
    if input.form_fields is not None:
        changes["form_fields"] = _fields(input.form_fields)
    changed = await service.update_type(ctx.now, key_of(input.id, "mty", "id"), changes)
    return MerchantTypePayload(merchant_type=refer(changed.id), errors=[])


def _fields(given_fields: Sequence[MerchantFormFieldInput]) -> list[service.FormField]:
    return [service.FormField(**vars(one)) for one in given_fields]


@mutation
async def save_onboarding(ctx: Context, input: SaveOnboardingInput) -> OnboardingPayload:
    """Keeps what one's company has filled in so far (S4-02)."""
    saved = await service.save_application(
        ctx.now,
        type_id=key_of(input.merchant_type, "mty", "merchantType"),
        wechat_app_id=input.wechat_app_id,
        answers=[(one.key, one.value) for one in input.answers],
        documents=[
            (one.document, key_of(one.file, "fil", f"documents.{number}.file"))
            for number, one in enumerate(input.documents)
        ],
    )
    return OnboardingPayload(application=refer(saved.id), errors=[])


@mutation
async def submit_onboarding(ctx: Context, input: OnboardingInput) -> OnboardingPayload:
    """Hands one's application in, once nothing is missing (S4-02, S4-03, S4-60)."""
    changed = await service.submit(ctx.now, key_of(input.id, "onb", "id"))
    return OnboardingPayload(application=refer(changed.id), errors=[])


@mutation
async def withdraw_onboarding(ctx: Context, input: OnboardingInput) -> OnboardingPayload:
    """Takes one's application back before it is decided on (S4-02)."""
    changed = await service.withdraw(ctx.now, key_of(input.id, "onb", "id"))
    return OnboardingPayload(application=refer(changed.id), errors=[])


@mutation
async def approve_onboarding(ctx: Context, input: OnboardingInput) -> OnboardingPayload:
    """Takes a merchant on: it may sell, and is given the contract of its type (S4-02, S4-04,
    S4-74)."""
    changed = await service.approve(ctx.now, key_of(input.id, "onb", "id"))
    return OnboardingPayload(application=refer(changed.id), errors=[])


@mutation
async def reject_onboarding(ctx: Context, input: RejectOnboardingInput) -> OnboardingPayload:
    """Does not take a merchant on, and says why (S4-02)."""
    changed = await service.reject(ctx.now, key_of(input.id, "onb", "id"), input.reason)
    return OnboardingPayload(application=refer(changed.id), errors=[])
