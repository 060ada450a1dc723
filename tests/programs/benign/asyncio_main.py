import asyncio
async def main():
    input()
    await asyncio.sleep(0)
    print(sum(map(int, input().split())))
asyncio.run(main())
