from tests.tiny_model import installed, tiny

__all__ = ["installed", "tiny"]
