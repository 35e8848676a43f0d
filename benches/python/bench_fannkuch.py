"""Pancake flips over all permutations of eight: list slices, integer comparisons, tight loops."""


def permutations(n):
    """All permutations of range(n), each made from the one before by a rotation of a prefix."""
    items = list(range(n))
    rotations = [0] * n
    yield items
    i = 1
    while i < n:
        if rotations[i] < i:
            items[: i + 1] = items[1 : i + 1] + items[:1]
            rotations[i] += 1
            yield items
            i = 1
        else:
            items[: i + 1] = items[1 : i + 1] + items[:1]
            rotations[i] = 0
            i += 1


def run(n=8):
    most = 0
    checksum = 0
    for place, items in enumerate(permutations(n)):
        first = items[0]
        if first:
            row = items[:]
            flips = 0
            while first:
                row[: first + 1] = row[first::-1]
                first = row[0]
                flips += 1
            if flips > most:
                most = flips
            checksum += -flips if place & 1 else flips
    return f"{checksum} {most}"
