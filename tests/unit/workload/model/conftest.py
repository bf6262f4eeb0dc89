from tests.tiny_model import installed, tiny, tiny_path

__all__ = ["installed", "tiny", "tiny_path"]
