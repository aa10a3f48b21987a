"""The program in a pod: how it starts the recipe that it was sent."""

from resources.job_pod import _launcher


def test_a_recipe_on_several_gpus_lost_what_its_exit_code_means() -> None:
    several = {"PET_NPROC_PER_NODE": "4"}
    assert _launcher({"distributed": True}, several) == ["-m", "recipes.parallel"]
    assert _launcher({"distributed": False}, several) == _launcher({"distributed": True}, {}) == []
