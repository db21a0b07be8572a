"""Numbered SQL files, applied in order by `ingestor.migrate`. An applied file is never edited: add the next number."""
