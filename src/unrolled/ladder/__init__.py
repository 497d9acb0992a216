"""The same network four times, from plain Python lists to the engine: rungs 0 (`plain`) and 1 (`layers`) so far."""
