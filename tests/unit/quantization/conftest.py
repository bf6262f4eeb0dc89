from tests.tiny_model import installed, text, tiny

__all__ = ["installed", "text", "tiny"]
