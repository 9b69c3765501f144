-- Notes: a list of short texts, kept in the app's own storage.
Notes = { items = {} }

local KEY = "notes"

local function save()
  mosis.storage.set(KEY, Notes.items)
end

local function escape(text)
  return (text:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }))
end

function Notes.show()
  local rows = {}
  for index, note in ipairs(Notes.items) do
    local class = note.done and "note done" or "note"
    rows[#rows + 1] = string.format(
      '<div class="%s" onclick="Notes.toggle(%d)">%s</div>', class, index, escape(note.text))
  end
  Notes.document:GetElementById("list").inner_rml = table.concat(rows)
  Notes.document:GetElementById("empty").style.display = #rows == 0 and "block" or "none"
end

function Notes.start(document)
  Notes.document = document
  Notes.items = mosis.storage.get(KEY) or {}
  Notes.show()
end

function Notes.add()
  local field = Notes.document:GetElementById("text")
  local text = field:GetAttribute("value") or ""
  if text:match("%S") then
    table.insert(Notes.items, 1, { text = text, done = false })
    field:SetAttribute("value", "")
    save()
    Notes.show()
  end
end

function Notes.toggle(index)
  local note = Notes.items[index]
  note.done = not note.done
  save()
  Notes.show()
end
