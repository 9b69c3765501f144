/* libzip. */
#include <zip.h>
#include "reader.h"

static const char *read_file(zip_t *archive, zip_uint64_t number) {
    static char block[1 << 16];
    sha256 digest;
    zip_int64_t got;
    const char *name = zip_get_name(archive, number, ZIP_FL_ENC_GUESS);
    if (!name) return "no name";
    if (is_folder(name)) return NULL;
    zip_file_t *file = zip_fopen_index(archive, number, 0);
    if (!file) return "a file does not open";
    sha256_begin(&digest);
    while ((got = zip_fread(file, block, sizeof block)) > 0) sha256_more(&digest, block, (size_t)got);
    if (zip_fclose(file) || got < 0) return "a file is damaged";
    sha256_end(&digest, name);
    return NULL;
}

static const char *read_archive(const char *path) {
    zip_t *archive = zip_open(path, ZIP_RDONLY, NULL);
    if (!archive) return "does not open";
    const char *wrong = NULL;
    zip_int64_t count = zip_get_num_entries(archive, 0);
    for (zip_int64_t number = 0; number < count && !wrong; number++) wrong = read_file(archive, (zip_uint64_t)number);
    zip_discard(archive);
    return wrong;
}

int main(void) { return serve(); }
