// The checks of an uploaded package in the peer in Go: those that the portal does inside the request.
package main

import (
	"archive/zip"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"
)

const (
	largestFile     = 10 << 20
	largestUnpacked = 200 << 20
	mostFiles       = 1000
	largestManifest = 64 << 10
	largestRatio    = 100
)

var (
	endings = map[string]bool{".rml": true, ".rcss": true, ".lua": true, ".png": true, ".jpg": true, ".jpeg": true, ".tga": true, ".webp": true,
		".ttf": true, ".otf": true, ".json": true, ".ogg": true, ".wav": true, ".mp3": true, ".txt": true, ".md": true}
	permissions = map[string]bool{"storage": true, "storage.shared": true, "network": true, "clipboard": true, "notifications": true,
		"camera": true, "microphone": true, "location": true, "contacts": true}
	semantic = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
)

type manifest struct {
	ID          string            `json:"id" validate:"min=3,max=255"`
	Name        string            `json:"name" validate:"min=1,max=50"`
	Version     string            `json:"version"`
	VersionCode int               `json:"version_code" validate:"min=1,max=2147483647"`
	Entry       string            `json:"entry" validate:"required"`
	MinMosis    string            `json:"min_mosis_version"`
	Permissions []string          `json:"permissions"`
	Icons       map[string]string `json:"icons"`
	Screenshots []string          `json:"screenshots"`
	Author      struct {
		Name  string `json:"name" validate:"min=1,max=100"`
		Email string `json:"email" validate:"min=3,max=254"`
	} `json:"author"`
}

// safeName refuses paths that leave the archive, or that two systems would read differently.
func safeName(name string) bool {
	return len(name) <= 256 && utf8.ValidString(name) && path.Clean(name) == name && !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "../") &&
		!strings.ContainsAny(name, "\\:\x00") && strings.Count(name, "/") < 16
}

// unpacked reads every file once: its SHA-256, and the content of the few that are looked into.
func unpacked(archive *zip.Reader) (map[string][]byte, map[string][]byte, error) {
	digests, contents, folded, total := map[string][]byte{}, map[string][]byte{}, map[string]bool{}, int64(0)
	if len(archive.File) > mostFiles {
		return nil, nil, errors.New("too many files")
	}
	for _, entry := range archive.File {
		name := entry.Name
		key := strings.ToLower(name)
		if !safeName(name) || folded[key] || !entry.Mode().IsRegular() || entry.Flags&1 != 0 || entry.Method != zip.Store && entry.Method != zip.Deflate {
			return nil, nil, fmt.Errorf("entry refused: %q", name)
		}
		folded[key] = true
		meta := strings.HasPrefix(name, "META-INF/")
		if !meta && !endings[strings.ToLower(path.Ext(name))] {
			return nil, nil, fmt.Errorf("kind refused: %q", name)
		}
		file, err := entry.Open()
		if err != nil {
			return nil, nil, err
		}
		digest, into := sha256.New(), io.Writer(io.Discard)
		content := &bytes.Buffer{}
		if meta || name == "manifest.json" {
			into = content
		}
		size, err := io.Copy(io.MultiWriter(digest, into), io.LimitReader(file, largestFile+1)) // checks the CRC
		file.Close()
		total += size
		if err != nil || size > largestFile || total > largestUnpacked || size > 1<<20 && size > largestRatio*int64(entry.CompressedSize64) {
			return nil, nil, fmt.Errorf("content refused: %q", name)
		}
		digests[name] = digest.Sum(nil)
		if into != io.Discard {
			contents[name] = content.Bytes()
		}
	}
	return digests, contents, nil
}

// listed reads META-INF/MANIFEST.MF: {name: SHA-256}.
func listed(text []byte) (map[string][]byte, error) {
	found := map[string][]byte{}
	sections := strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n\n")
	for _, section := range sections[1:] {
		var name, digest string
		for _, line := range strings.Split(strings.ReplaceAll(section, "\n ", ""), "\n") { // folded lines
			field, value, _ := strings.Cut(line, ": ")
			if field == "Name" {
				name = value
			} else if field == "SHA-256-Digest" {
				digest = value
			}
		}
		if name == "" {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(digest)
		if err != nil || found[name] != nil {
			return nil, fmt.Errorf("digest refused: %q", name)
		}
		found[name] = raw
	}
	return found, nil
}

// inspect checks a stored package against its app and the key of its owner; nil if nothing is wrong with it.
func inspect(file string, packageID string, key ed25519.PublicKey) (*manifest, error) {
	archive, err := zip.OpenReader(file)
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	digests, contents, err := unpacked(&archive.Reader)
	if err != nil {
		return nil, err
	}
	mf, signature := contents["META-INF/MANIFEST.MF"], contents["META-INF/CERT.SIG"]
	if len(signature) != ed25519.SignatureSize {
		if signature, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(signature)), "")); err != nil {
			return nil, err
		}
	}
	if len(signature) != ed25519.SignatureSize || !ed25519.Verify(key, mf, signature) {
		return nil, errors.New("signature refused")
	}
	claimed, err := listed(mf)
	if err != nil {
		return nil, err
	}
	inside := 0
	for name, digest := range digests {
		if strings.HasPrefix(name, "META-INF/") {
			continue
		}
		inside++
		if !bytes.Equal(claimed[name], digest) {
			return nil, fmt.Errorf("digest differs: %q", name)
		}
	}
	if inside != len(claimed) {
		return nil, errors.New("MANIFEST.MF lists a file that is not there")
	}
	said := &manifest{}
	decoder := json.NewDecoder(bytes.NewReader(contents["manifest.json"]))
	if len(contents["manifest.json"]) > largestManifest || decoder.Decode(said) != nil || check.Struct(said) != nil {
		return nil, errors.New("manifest refused")
	}
	if said.ID != packageID || !semantic.MatchString(said.Version) || !semantic.MatchString(said.MinMosis) {
		return nil, errors.New("manifest refused")
	}
	for _, name := range said.Permissions {
		if !permissions[name] {
			return nil, errors.New("permission refused")
		}
	}
	named := append([]string{said.Entry, said.Icons["32"], said.Icons["64"], said.Icons["128"]}, said.Screenshots...)
	for _, name := range named {
		if digests[name] == nil {
			return nil, fmt.Errorf("not in the package: %q", name)
		}
	}
	return said, nil
}
