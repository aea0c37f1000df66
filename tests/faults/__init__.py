"""What may go wrong around a run, as one table: each fault is planted into a healthy run, and what follows is
asserted.

``FAULTS`` of the modules here are its rows; :mod:`.planted` says what a row is. Rows that draw at random are
drawn once; the whole, ten draws of them, a kill at every file that a run writes and longer fuzzing:

    python -m pytest tests/faults --faults all --seed 0
"""
