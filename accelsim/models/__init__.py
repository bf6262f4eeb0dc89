"""Whole models: what a Hugging Face `config.json` describes."""
