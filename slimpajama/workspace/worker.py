"""A process that makes some units of a step for another one, such as a worker of a cluster."""

from slimpajama.core.errors import StorageError
from slimpajama.workspace import layout
from slimpajama.workspace.claims import only_keys
from slimpajama.workspace.manifest import Manifest, load_manifest
from slimpajama.workspace.step import Context, Step, run_step
from slimpajama.workspace.store import Store


def run_some(step: Step, context: Context, keys: list[str]) -> None:
    """Make some units of a step that another process runs, and leave the rest of it alone.

    Raises:
        StorageError: If the steps before are not there, or this process would make other bytes: its code, libraries
            or settings are not those of the step's own process.
    """
    # A cluster's process may outlive a night that was given up, and then its files get other names.
    context.workspace.store.read_versioned(layout.night(context.night).manifest)
    made = {name: _made_before(context.workspace.store, context.night, name, step.name) for name in step.before()}
    with only_keys(keys):
        run_step(step, context, made)


def _made_before(store: Store, night: str, name: str, step: str) -> Manifest:
    path = f"{layout.night(night).work(name)}/{layout.MANIFEST}"
    if (manifest := load_manifest(store, path)) is None:
        raise StorageError(
            f"{step} needs what {name} has made",
            where=f"{store.uri}/{path}",
            found="nothing",
            hint="Do all workers see the same workspace? A cluster needs one on S3 or on a shared disk.",
        )
    return manifest
