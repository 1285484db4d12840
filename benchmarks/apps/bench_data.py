"""What the applications of the benchmark answer with."""

ROWS = [
    {"id": i, "name": f"Row {i}", "price": i * 1.25, "in_stock": i % 3 > 0, "tags": ["a", "b"]}
    for i in range(100)
]

CHUNK = b"x" * 65536
CHUNKS = 160  # 10 MB
PIECE = b"x" * 100
