"""How busy this machine's GPUs are, by nvidia-smi; nothing where there is none."""

import shutil
import subprocess

FIELDS = ("utilization.gpu", "memory.used", "memory.total", "power.draw")
NAMES = ("gpu_percent", "gpu_memory_mib", "gpu_memory_total_mib", "gpu_watts")


def gpu_figures() -> dict[str, float]:
    """The mean utilisation, and the sums of memory and power over all GPUs that this container has."""
    if shutil.which("nvidia-smi") is None:
        return {}
    asked = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return parsed(done.stdout)


def parsed(text: str) -> dict[str, float]:
    """What nvidia-smi printed: one line for each GPU; figures that it does not know are left out."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line.strip()]
    figures: dict[str, float] = {}
    for index, name in enumerate(NAMES):
        known = [float(row[index]) for row in rows if row[index].replace(".", "", 1).isdigit()]
        if known:
            figures[name] = sum(known) / len(known) if name == "gpu_percent" else sum(known)
    return figures
