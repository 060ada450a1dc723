class Spin:
    def __del__(self):
        while True:
            pass
kept = Spin()
