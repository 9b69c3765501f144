/* zlib's contrib/minizip, as Debian's libminizip-dev has it: the usual reader of C and C++ programs. */
#include <minizip/unzip.h>
#include "reader.h"

static const char *read_file(unzFile archive) {
    static char name[1 << 16], block[1 << 16];
    unz_file_info64 info;
    sha256 digest;
    int got;
    if (unzGetCurrentFileInfo64(archive, &info, name, sizeof name, NULL, 0, NULL, 0) != UNZ_OK) return "no file info";
    if (is_folder(name)) return NULL;
    if (unzOpenCurrentFile(archive) != UNZ_OK) return "a file does not open";
    sha256_begin(&digest);
    while ((got = unzReadCurrentFile(archive, block, sizeof block)) > 0) sha256_more(&digest, block, (size_t)got);
    if (unzCloseCurrentFile(archive) != UNZ_OK || got < 0) return "a file is damaged";
    sha256_end(&digest, name);
    return NULL;
}

static const char *read_archive(const char *path) {
    unzFile archive = unzOpen64(path);
    if (!archive) return "does not open";
    const char *wrong = NULL;
    int state = unzGoToFirstFile(archive);
    while (state == UNZ_OK && !(wrong = read_file(archive))) state = unzGoToNextFile(archive);
    unzClose(archive);
    return wrong ? wrong : state == UNZ_END_OF_LIST_OF_FILE ? NULL : "the directory is damaged";
}

int main(void) { return serve(); }
