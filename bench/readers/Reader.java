import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Collections;
import java.util.HexFormat;
import java.util.jar.JarFile;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipInputStream;

/** java.util.zip by the directory ("zip"), java.util.jar ("jar"), or as a stream ("stream"), where only local headers count. */
public class Reader {
    private static final PrintStream out = new PrintStream(System.out, false);

    public static void main(String[] arguments) throws Exception {
        BufferedReader paths = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String path = paths.readLine(); path != null; path = paths.readLine()) {
            try {
                read(arguments[0], path);
                out.println(".");
            } catch (Exception error) {
                out.println("! " + error.toString().replace('\n', ' '));
            }
            out.flush();
        }
    }

    private static void read(String mode, String path) throws Exception {
        if (mode.equals("stream")) {
            try (ZipInputStream archive = new ZipInputStream(new FileInputStream(path))) {
                for (ZipEntry entry = archive.getNextEntry(); entry != null; entry = archive.getNextEntry()) {
                    print(entry, archive);
                }
            }
            return;
        }
        try (ZipFile archive = mode.equals("jar") ? new JarFile(path) : new ZipFile(path)) {
            for (ZipEntry entry : Collections.list(archive.entries())) {
                print(entry, archive.getInputStream(entry));
            }
        }
    }

    private static void print(ZipEntry entry, InputStream content) throws Exception {
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        byte[] block = new byte[1 << 16];
        for (int got = content.read(block); got > 0; got = content.read(block)) {
            digest.update(block, 0, got);
        }
        if (!entry.isDirectory()) {
            HexFormat hex = HexFormat.of();
            out.println(hex.formatHex(entry.getName().getBytes(StandardCharsets.UTF_8)) + " " + hex.formatHex(digest.digest()));
        }
    }
}
