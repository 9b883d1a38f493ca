# A content index of real files: digests and compressed previews (as bytes), and word weights as arrays of floats.
import array, collections, hashlib, math, os, sys, zlib
digests, previews, vectors, left = {}, [], {}, 128 << 20
for folder in sys.argv[1:]:
    for where, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            path = os.path.join(where, name)
            try:
                if left <= 0 or os.path.islink(path) or not 1024 <= os.path.getsize(path) <= 1 << 21:
                    continue
                data = open(path, "rb").read()
            except OSError:
                continue
            left -= len(data)
            previews.append(zlib.compress(data[:16384], 1))
            for at in range(0, len(data), 512):
                digests[hashlib.sha256(data[at:at + 512]).digest()] = (path, at)
            words = collections.Counter(data.split())
            scale = math.sqrt(sum(n * n for n in words.values())) or 1.0
            vectors[path] = array.array("d", (n / scale for n in words.values()))
print("ready", flush=True)
sys.stdin.read()
