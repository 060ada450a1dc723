while True:
    try:
        while True:
            bytearray(1 << 24)
    except BaseException:
        pass
