-- Checks whether a task has all of these tags, and whether its input contains p_input (null: any input does), reading
-- each in a subtransaction. What the database cannot read counts as fitting: `unreadable` names it ("tags", "input"),
-- so that a list shows the task instead of hiding it.
-- Called by find_tasks after an error of a row. Locks: none. Indexes: primary keys.

create function tasker_core_v1.fits_if_readable(
  p_task bigint,
  p_tags text[],
  p_input jsonb,
  out fits boolean,
  out unreadable text[]
) language plpgsql stable as $$
declare
  v_field text;
begin
  fits := true;
  unreadable := '{}';
  foreach v_field in array array['tags', 'input'] loop
    begin
      fits := fits and case v_field
        when 'tags' then
          p_tags = '{}' or exists (select from tasker_tasks where id = p_task and tags @> p_tags)
        else
          p_input is null or exists (select from tasker_task_inputs where task_id = p_task and input @> p_input)
      end;
    exception
      when others then
        if tasker_core_v1.row_error(sqlstate, sqlerrm) is null then
          raise;
        end if;
        unreadable := unreadable || v_field;
    end;
  end loop;
end
$$;
