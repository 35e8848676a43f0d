"""Searches and replaces in a made-up log with regular expressions: the engine `_sre`, strings, small dictionaries."""

import re


def log(lines):
    state = 12345
    out = []
    for i in range(lines):
        state = (state * 1103515245 + 12345) % 2147483648
        out.append(
            f"10.{state % 200}.{i % 256}.{state // 7 % 256} - user{state % 50} "
            f'"GET /path/{state % 1000}/item{i % 10}.html?q={state % 97}" {200 if state % 11 else 404} {state % 5000}'
        )
    return "\n".join(out)


LINE = re.compile(r'^(\d+(?:\.\d+){3}) - (\w+) "(GET|POST) ([^" ]+)" (\d{3}) (\d+)$', re.M)
NUMBER = re.compile(r"\d+")
WORD = re.compile(r"\b(item|path|user)(\d*)\b", re.I)


def run():
    text = log(900)
    missing = {}
    volume = 0
    for match in LINE.finditer(text):
        address, user, _, path, status, size = match.groups()
        volume += int(size)
        if status == "404":
            missing[user] = missing.get(user, 0) + 1
    shorter = WORD.sub(lambda m: m[1][0] + m[2], text)
    largest = max(map(int, NUMBER.findall(text)))
    return f"{volume} {sum(missing.values())} {len(shorter)} {largest}"
