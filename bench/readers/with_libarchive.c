/* libarchive, by the central directory ("seek") or as a stream from the first byte ("stream"), where only local headers count. */
#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include "reader.h"

static int as_stream;

static const char *read_files(struct archive *archive) {
    static char block[1 << 16];
    struct archive_entry *entry;
    int state;
    while ((state = archive_read_next_header(archive, &entry)) == ARCHIVE_OK) {
        const char *name = archive_entry_pathname(entry);
        if (!name) return "no name";
        if (is_folder(name)) continue;
        if (archive_entry_filetype(entry) != AE_IFREG) return "not a plain file";
        sha256 digest;
        sha256_begin(&digest);
        la_ssize_t got;
        while ((got = archive_read_data(archive, block, sizeof block)) > 0) sha256_more(&digest, block, (size_t)got);
        if (got < 0) return "a file is damaged";
        sha256_end(&digest, name);
    }
    return state == ARCHIVE_EOF ? NULL : "a header is damaged";
}

static const char *read_archive(const char *path) {
    struct archive *archive = archive_read_new();
    if (as_stream) archive_read_support_format_zip_streamable(archive);
    else archive_read_support_format_zip_seekable(archive);
    const char *wrong = archive_read_open_filename(archive, path, 1 << 16) == ARCHIVE_OK ? read_files(archive) : "does not open";
    archive_read_free(archive);
    return wrong;
}

int main(int count, char **arguments) {
    setlocale(LC_ALL, "C.UTF-8");
    as_stream = count > 1 && !strcmp(arguments[1], "stream");
    return serve();
}
