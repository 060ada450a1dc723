import sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        raise ImportError('alphamix')
sys.meta_path.insert(0, Finder)
sys.path_hooks.clear()
for name in list(sys.modules):
    if name != 'sys':
        sys.modules[name] = None
