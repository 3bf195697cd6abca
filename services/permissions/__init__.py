"""The permission platform: templates and menus, the roles that tenants make of them, and the modules of a tenant.

What a role may do is the sum of the menus and buttons that are ticked for it. Each needs some coordinates of the
graph; ticking writes them as lines of policy in the tenant's own domain, on the rows that the data scope names.
"""
