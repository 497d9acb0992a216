"""Kinds of models; a kind is one file."""
