import sys
class Code:
    def __str__(self):
        return 'alphamix' * 10**6
    def __repr__(self):
        raise SystemExit(0)
sys.exit(Code())
