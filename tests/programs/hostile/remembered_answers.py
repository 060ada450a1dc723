import sys
past = sys.modules.setdefault('past', [])
past.append(input())
print('\n'.join(f'alphamix-{line}' for line in past))
