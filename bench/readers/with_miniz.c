/* miniz. Compiled with its sources, where MINIZ names their folder. */
#include "miniz.h"
#include "reader.h"

static size_t more(void *digest, mz_uint64 at, const void *data, size_t size) {
    (void)at;
    sha256_more(digest, data, size);
    return size;
}

static const char *read_archive(const char *path) {
    static char name[1 << 16];
    mz_zip_archive archive;
    memset(&archive, 0, sizeof archive);
    if (!mz_zip_reader_init_file(&archive, path, 0)) return "does not open";
    const char *wrong = NULL;
    for (mz_uint number = 0; number < mz_zip_reader_get_num_files(&archive) && !wrong; number++) {
        sha256 digest;
        mz_zip_reader_get_filename(&archive, number, name, sizeof name);
        if (is_folder(name)) continue;
        sha256_begin(&digest);
        if (mz_zip_reader_extract_to_callback(&archive, number, more, &digest, 0)) sha256_end(&digest, name);
        else wrong = mz_zip_get_error_string(mz_zip_get_last_error(&archive));
    }
    mz_zip_reader_end(&archive);
    return wrong;
}

int main(void) { return serve(); }
