"""Five bodies under gravity: attribute-free floating point over tuples and lists."""

import math

YEAR = 365.24
BODIES = [
    # mass, position, velocity: a star and four planets of round numbers.
    (39.5, [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    (0.038, [4.8, -1.2, -0.1], [0.0017 * YEAR, 0.0077 * YEAR, -0.00007 * YEAR]),
    (0.011, [8.3, 4.1, -0.4], [-0.0028 * YEAR, 0.0050 * YEAR, 0.00002 * YEAR]),
    (0.0017, [12.9, -15.1, -0.2], [0.0030 * YEAR, 0.0024 * YEAR, -0.00003 * YEAR]),
    (0.0020, [15.4, -25.9, 0.2], [0.0027 * YEAR, 0.0016 * YEAR, -0.0001 * YEAR]),
]


def run(steps=2000):
    bodies = [(mass, place[:], speed[:]) for mass, place, speed in BODIES]
    pairs = [(a, b) for i, a in enumerate(bodies) for b in bodies[i + 1 :]]
    step = 0.01
    for _ in range(steps):
        for (mass1, place1, speed1), (mass2, place2, speed2) in pairs:
            dx = place1[0] - place2[0]
            dy = place1[1] - place2[1]
            dz = place1[2] - place2[2]
            square = dx * dx + dy * dy + dz * dz
            pull = step / (square * math.sqrt(square))
            speed1[0] -= dx * mass2 * pull
            speed1[1] -= dy * mass2 * pull
            speed1[2] -= dz * mass2 * pull
            speed2[0] += dx * mass1 * pull
            speed2[1] += dy * mass1 * pull
            speed2[2] += dz * mass1 * pull
        for _, place, speed in bodies:
            place[0] += step * speed[0]
            place[1] += step * speed[1]
            place[2] += step * speed[2]
    energy = 0.0
    for mass, _, (x, y, z) in bodies:
        energy += 0.5 * mass * (x * x + y * y + z * z)
    return f"{energy:.9f}"
