// Lines and words of real text as Java objects: strings, hash maps, array lists, in the young and old parts of the heap.
import java.io.IOException;
import java.nio.file.*;
import java.util.*;

class Words {
    record Place(String file, int line) {}
    static final Map<String, List<Place>> index = new HashMap<>();
    static final List<String> lines = new ArrayList<>();
    static long left = 8 << 20;

    static void load(Path path) {
        try {
            if (left <= 0 || !Files.isRegularFile(path) || Files.size(path) > 1 << 20) return;
            int number = 0;
            for (String line : Files.readAllLines(path)) {
                lines.add(line);
                left -= line.length();
                number++;
                for (String word : line.split("\\s+")) {
                    index.computeIfAbsent(word, w -> new ArrayList<>(2)).add(new Place(path.toString(), number));
                }
            }
        } catch (IOException unreadable) {
            // Not text, or not ours to read.
        }
    }

    public static void main(String[] folders) throws IOException {
        for (String folder : folders) {
            try (var files = Files.walk(Path.of(folder))) {
                files.sorted().forEach(Words::load);
            }
        }
        System.out.println("ready");
        System.in.read();
    }
}
