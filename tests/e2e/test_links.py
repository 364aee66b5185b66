"""Links in a workspace, and every command that writes: a sample of benchmarks/attacks/links.py."""

from benchmarks.attacks.links import attack


def test_no_command_changes_what_a_link_in_a_workspace_leads_to(tmp_path):
    (row,) = attack(tmp_path, 10, 0)
    assert row.tries == 10
    assert row.broken == []
