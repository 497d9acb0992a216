"""A function run on symbols -> instructions -> text."""
