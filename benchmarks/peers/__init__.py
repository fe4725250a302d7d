"""Other registration programs on the pairs that ours is measured on: `python -m benchmarks.peers`.

`pairs` writes the images, an adapter a peer says what is called and how its result is read,
`measure` calls and reads, `table` and `picture` show what is kept.
"""
