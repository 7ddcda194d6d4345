"""What goes wrong with an engine, wherever it is built or run."""


class EngineError(RuntimeError):
    """An engine cannot be built, is missing or cannot be loaded."""
