"""Writes and reads nested records as JSON: the C accelerators of the standard library, dictionaries, strings."""

import json


def records(count):
    return [
        {
            "id": i,
            "name": f"record {i}",
            "tags": [f"tag{i % 7}", "välue", '"quoted"\n'],
            "size": {"width": i * 1.5, "height": i / 3, "unit": None},
            "active": i % 2 == 0,
        }
        for i in range(count)
    ]


def run():
    data = records(600)
    text = json.dumps(data)
    back = json.loads(text)
    assert back == data
    pretty = json.dumps(back, indent=1, sort_keys=True, ensure_ascii=False)
    return f"{len(text)} {len(pretty)} {sum(r['size']['width'] for r in back)}"
