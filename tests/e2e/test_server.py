"""The command line alone, without a Prefect server that stays."""

import os
import sqlite3
import subprocess
import sys


def test_a_run_brings_its_own_server_and_leaves_records_but_no_process(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    done = subprocess.run(
        [sys.executable, "-m", "slimpajama", "clean-up", "--workspace", tmp_path / "w"],
        capture_output=True,
        text=True,
        env=environment | {"PREFECT_HOME": str(tmp_path / "home")},
        timeout=300,
        check=False,
        start_new_session=True,
        # In the checkout, `make up` may have named its server.
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(tmp_path / "home" / "prefect.db") as records:
        assert records.execute("SELECT name, state_type FROM flow_run").fetchall() == [("clean-up-w", "COMPLETED")]
        assert records.execute("SELECT DISTINCT state_type FROM task_run").fetchall() == [("COMPLETED",)]
        assert records.execute("SELECT count(*) FROM log").fetchone()[0] > 0
    homes = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{process}/environ", "rb") as file:
                homes.append(file.read())
        except OSError:  # not ours, or gone
            continue
    assert not [home for home in homes if str(tmp_path / "home").encode() in home]
