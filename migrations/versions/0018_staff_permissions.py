"""What changes staff is opened on the rows of the data scope, as what reads them is; who decided about a module."""

from alembic import op

revision = "0018_staff_permissions"
down_revision = "0017_files"
branch_labels = None
depends_on = None

ON_STAFF = (
    "createStaffAccount",
    "setStaffRoles",
    "setStaffStatus",
    "revokeSessions",
    "setStaffPositions",
    "updateStaffAccount",
    "resetStaffPassword",
    "unlockStaffAccount",
    "resetSecondFactor",
    "createDepartment",
    "updateDepartment",
    "setDepartmentStatus",
    "deleteDepartment",
)
"""Mutations that act on the staff of departments, or on departments."""


def upgrade() -> None:
    op.execute("ALTER TABLE tenant_module ADD COLUMN decided_level SMALLINT DEFAULT 0 NOT NULL")
    named = ", ".join(f"'Mutation.{name}'" for name in ON_STAFF)
    op.execute(
        f"""
        UPDATE role_policy p
        SET scope = CASE r.data_scope
            WHEN 'CUSTOM' THEN 'departments'
            WHEN 'DEPARTMENT' THEN 'department'
            WHEN 'DEPARTMENT_AND_BELOW' THEN 'department_tree'
            ELSE 'self' END
        FROM role r
        WHERE r.id = p.role_id AND r.data_scope <> 'ALL' AND p.obj IN ({named})
        """
    )


def downgrade() -> None:
    """The rows that these lines opened before were too many: there is no way back."""
