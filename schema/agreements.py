"""Agreements and consent in the graph."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import strawberry

import models.agreements as stored
from planner.mapping import Node, column, entity, input_type, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.tenancy import Tenant


@entity(stored.Agreement, prefix="agr", filters=("document",), sorts=("published_at",))
class Agreement(Node):
    """One version of a document that end users sign (S1-72); it never changes."""

    document: str = column("Which document it is a version of, such as ``terms`` or ``privacy``.")
    version: str
    title: str
    text: str
    published_at: datetime
    tenant: Tenant | None = to_one("Whose document it is.")


@entity(stored.AgreementConsent, prefix="agc", filters=("document",), sorts=("signed_at",))
class AgreementConsent(Node):
    """A version of a document that an end user has signed (S1-72)."""

    document: str
    version: str
    signed_at: datetime
    agreement: Agreement | None = to_one("What was signed.")


@value
class AgreementText:
    """A document as it is laid before somebody who wants to register (S1-72)."""

    document: str
    version: str
    title: str
    text: str


@input_type
class PublishAgreementInput:
    """A new version of a document of the caller's own tenant (S1-72)."""

    document: str
    version: str
    title: str
    text: str


@input_type
class SignatureInput:
    """The consent to one version of a document (S1-72)."""

    document: str
    version: str


@input_type
class SignAgreementsInput:
    """What the calling end user signs (S1-72)."""

    agreements: list[SignatureInput]


@input_type
class RegisterEndUserInput:
    """A new end user of a tenant, with consent to all that is in force there (S1-72, S1-74).

    ``verificationCode``: sent to ``email`` (S1-73); without it only where this installation takes people in so.
    """

    tenant: strawberry.ID
    account: str
    password: str
    email: str
    name: str | None = None
    verification_code: str | None = None
    agreements: list[SignatureInput]


@value
class AgreementPayload:
    """The version, or why it was not published."""

    agreement: Agreement | None
    errors: list[UserError]
