"""Projects: created, renamed, described, deleted."""

import sqlalchemy as sa

from workshop_server.context import Caller
from workshop_server.flows import versions
from workshop_server.graph.types.mutation_field import ID, NEEDED_ID, NEEDED_TEXT, TEXT, Fields, home_of, mutation
from workshop_server.graph.types.scalars import UUID
from workshop_server.store.database import insert_unique, update, update_unique
from workshop_server.store.tables import project

FIELDS: Fields = {}


@mutation(FIELDS, ID, name=NEEDED_TEXT, description=TEXT, tenant_id=UUID)
def create_project(conn: sa.Connection, caller: Caller, name: str, description: str | None,
                   tenant_id: str | None) -> dict:
    """Create a project to register flows with."""
    return {"id": insert_unique(conn, project, tenant_id=home_of(conn, caller, tenant_id), name=name,
                                description=description)}


@mutation(FIELDS, project_id=NEEDED_ID)
def delete_project(conn: sa.Connection, caller: Caller, project_id: str) -> None:
    """Delete a project with its flows and their runs."""
    versions.delete_project(conn, caller.tenant, project_id)


@mutation(FIELDS, ID, project_id=NEEDED_ID, name=NEEDED_TEXT)
def set_project_name(conn: sa.Connection, caller: Caller, project_id: str, name: str) -> dict:
    """Give a project another name."""
    update_unique(conn, project, project_id, caller.tenant, name=name)
    return {"id": project_id}


@mutation(FIELDS, ID, project_id=NEEDED_ID, description=TEXT)
def set_project_description(conn: sa.Connection, caller: Caller, project_id: str, description: str | None) -> dict:
    """Describe a project."""
    update(conn, project, project_id, caller.tenant, description=description)
    return {"id": project_id}
