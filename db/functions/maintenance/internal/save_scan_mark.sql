-- Takes note of where a look for rows of a table came upon live ones, so that this session's next looks begin there.
--
-- A long transaction elsewhere keeps dead rows from being removed, all of them before the first live row, and a look has
-- to pass them. So when a whole look (p_marks_before is null) took longer than p_fast, the next ones begin at its marks.
-- They miss what was being inserted before the marks and not committed at the time; another whole look finds it. That is
-- due after twenty times as long as this one took: it costs 5 % of the time, and as long as looks are fast each is whole.
-- A session's first look does not count, as its statements are planned then.
--
-- A mark is nothing but a hint, kept in a setting of the session: lost, or met by another user of a pooled session, it
-- does no harm. The time is the real one, whatever tests do to current_time.

create function tasker_core_v1.save_scan_mark(
  p_table regclass,
  p_marks_before jsonb,
  p_marks jsonb,
  p_began timestamptz,
  p_fast interval
) returns void
language plpgsql as $$
declare
  v_setting text := 'tasker_core.look_' || p_table::oid;
  v_took interval := clock_timestamp() - p_began;
  v_scan text := '';
begin
  if p_marks_before is not null then
    v_scan := current_setting(v_setting)::jsonb || jsonb_build_object('marks', p_marks);
  elsif v_took <= p_fast then
    return;
  elsif current_setting(v_setting, true) is not null then
    v_scan := jsonb_build_object('marks', p_marks, 'whole_at', extract(epoch from clock_timestamp() + 20 * v_took));
  end if;

  perform set_config(v_setting, v_scan, false);
end
$$;
