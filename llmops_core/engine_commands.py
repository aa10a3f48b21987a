"""How an engine is started in a pod: its command and what it is told in its environment.

Weights lie in the pod, where `fetch` put them: nothing is asked of a hub, and nothing is told of how it is used.
"""

from llmops_core.serving_plan import DeploymentPlan

ENGINE_PORT = 8001
WORK, WEIGHTS = "/scratch", "/weights"
KIND_OF_WEIGHTS = "weights"


# Nothing is asked of a hub. The pod's user may have no name, and compilers ask for one.
VLLM_ENVIRONMENT = {
    **{"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"},
    "USER": "llmops",
}


def command_of(plan: DeploymentPlan) -> list[str]:
    """It listens on the pod's own address alone, and knows the weights by their digest."""
    return _vllm(plan) if plan.engine == "vllm" else _llama(plan)


def environment_of(plan: DeploymentPlan) -> dict[str, str]:
    if plan.engine == "llama.cpp":
        return {}
    return VLLM_ENVIRONMENT | {"XDG_CACHE_HOME": f"{WORK}/cache", "TRITON_CACHE_DIR": f"{WORK}/cache/triton"}


def _folder(plan: DeploymentPlan) -> str:
    """As the cache of an artefact store keeps a folder."""
    return f"{WEIGHTS}/{KIND_OF_WEIGHTS}/{plan.weights_digest}"


def _llama(plan: DeploymentPlan) -> list[str]:
    options = {
        "--model": f"{_folder(plan)}/{plan.model_file.name}",
        "--host": "$(POD_IP)",
        "--port": ENGINE_PORT,
        "--alias": plan.alias,
        "--context-tokens": plan.context_tokens,
        "--parallel": plan.parallel,
        "--threads": max(1, int(plan.cpu)),
    }
    return ["python", "-m", "recipes.serve", *_flat(options)]


def _vllm(plan: DeploymentPlan) -> list[str]:
    return vllm_command(
        _folder(plan),
        {
            "--host": "$(POD_IP)",
            "--port": ENGINE_PORT,
            "--served-model-name": plan.alias,
            "--max-model-len": plan.context_tokens,
            "--max-num-seqs": plan.parallel,
            "--tensor-parallel-size": max(1, plan.gpu_count),
        },
    )


def vllm_command(folder: str, options: dict[str, str | int]) -> list[str]:
    """By its own program and not by `python`, which in an image of ours (deploy/images/vllm.Containerfile) is another
    one, with our packages."""
    return ["vllm", "serve", folder, *_flat(options)]


def _flat(options: dict[str, str | int]) -> list[str]:
    return [str(part) for option in options.items() for part in option]
