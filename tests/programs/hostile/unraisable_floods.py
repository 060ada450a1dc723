import sys
class Noise:
    def __del__(self):
        raise ValueError('x' * 10**6)
for _ in range(10**4):
    Noise()
sys.stderr.write('y' * 10**7)
sys.__stderr__.buffer.write(b'z' * 10**7)
