from llmops_assets.cli.main import main

__all__ = ["main"]
