// Go's archive/zip. Paths come in, one a line; names and SHA-256 go out, as reader.h says.
package main

import (
	"archive/zip"
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strings"
)

func readArchive(path string, out io.Writer) error {
	archive, err := zip.OpenReader(path)
	if err != nil {
		return err
	}
	defer archive.Close()
	for _, file := range archive.File {
		if strings.HasSuffix(file.Name, "/") {
			continue
		}
		content, err := file.Open()
		if err != nil {
			return err
		}
		digest := sha256.New()
		_, err = io.Copy(digest, content)
		content.Close()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%x %x\n", file.Name, digest.Sum(nil))
	}
	return nil
}

func main() {
	out := bufio.NewWriter(os.Stdout)
	for paths := bufio.NewScanner(os.Stdin); paths.Scan(); out.Flush() {
		if err := readArchive(paths.Text(), out); err != nil {
			fmt.Fprintf(out, "! %q\n", err.Error())
		} else {
			fmt.Fprintln(out, ".")
		}
	}
}
