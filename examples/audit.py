"""Index pictures, run the audit in `audit`, and print its nearest finding: three lines of Python, and a look."""

import byrote

if __name__ == "__main__":  # workers of `jobs=2` or more import this file again
    byrote.index("pictures/", held_out="unpublished/", corpus="corpus")
    audit = byrote.run("audit")
    print(audit.findings[0], audit.report)
