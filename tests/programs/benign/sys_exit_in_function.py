import sys
def main():
    input()
    print(sum(map(int, input().split())))
    sys.exit()
main()
