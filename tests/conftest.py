"""Property tests have no deadline: time is measured in benchmarks, and machines are loaded."""

import pytest
from hypothesis import settings

from slimpajama.workspace.mapped import CACHE_VARIABLE

settings.register_profile("slimpajama", deadline=None)
settings.load_profile("slimpajama")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep what is known of mapped files out of the user's own folder; processes that tests start inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield
