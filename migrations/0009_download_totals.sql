-- Downloads of days that are over are added up in one row for each version (day ''); the telemetry database has the days.
CREATE INDEX downloads_by_day ON downloads (day) WHERE day <> '';
CREATE TRIGGER downloads_counted_delete AFTER DELETE ON downloads BEGIN
    UPDATE listings SET downloads = downloads - OLD.count
        WHERE app_id = (SELECT app_id FROM versions WHERE id = OLD.version_id);
    UPDATE store_state SET counts = counts + 1;
END;
