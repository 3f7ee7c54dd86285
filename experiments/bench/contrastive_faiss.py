"""The vote of ten neighbors by faiss, in a process of an interpreter that has it."""

import sys

NEIGHBORS = 10


def main() -> None:
    """An exact search and its vote, once for every line of standard input.

    The line names a file with "queries" [B, D] and "bank" [N, D], float32, and "labels"
    [N], whose votes are saved beside it; or it is empty, for those of the line before.
    """
    import faiss
    import numpy as np

    index = queries = labels = None
    print("ready", faiss.__version__, flush=True)
    for line in sys.stdin:
        place = line.strip()
        if place:
            stored = np.load(place)
            queries, labels = stored["queries"], stored["labels"]
            index = faiss.IndexFlatL2(queries.shape[1])
            index.add(stored["bank"])
        _, found = index.search(queries, NEIGHBORS)
        near = labels[found]
        counts = np.zeros((len(near), labels.max() + 1), np.int32)
        np.add.at(counts, (np.arange(len(near))[:, None], near), 1)
        votes = counts.argmax(axis=1)
        if place:
            np.save(f"{place}.votes.npy", votes)
        print("done", len(votes), flush=True)


if __name__ == "__main__":
    main()
