# frozen_string_literal: true

# Tasks whose rows the database cannot read.
module Damage
  # Damages a task's row like a disk failure: moves its tags to the TOAST table and truncates that.
  def damage(task)
    lose("tasker_tasks", "tags = array(select md5(n::text) from generate_series(1, 500) as n)", "id = #{task.id}")
  end

  # Stores a long value in a row, and loses all values that the table stores out of line.
  # @param long [String] SQL: "input = …"; {LONG} is such a value
  # @param execute [#call] runs SQL, in one transaction
  def lose(table, long, row, execute: ActiveRecord::Base.connection.method(:execute))
    execute.call(<<~SQL)
      update #{table} set #{long} where #{row};
      set local allow_system_table_mods = on;
      do $$
      declare
        v_toast regclass := (select reltoastrelid from pg_class where oid = '#{table}'::regclass);
      begin
        update pg_class set relkind = 'r' where oid = v_toast;
        execute format('truncate %s', v_toast);
        update pg_class set relkind = 't' where oid = v_toast;
      end
      $$
    SQL
  end

  # A JSON object that is stored out of line.
  LONG = "(select jsonb_build_object('message', string_agg(md5(n::text), ' ')) from generate_series(1, 500) as n)"

  # Makes every list of tasks fail as on a damaged page of their table.
  def with_unreadable_list
    connection = ActiveRecord::Base.connection
    connection.execute(<<~SQL)
      alter function tasker_core_v1.find_tasks rename to find_tasks_before;
      create function tasker_core_v1.find_tasks(jsonb, uuid, integer, integer) returns json language plpgsql as $$
      begin
        raise exception 'invalid page in block 7' using errcode = 'XX001';
      end
      $$
    SQL
    yield
  ensure
    connection.execute("drop function tasker_core_v1.find_tasks; " \
                       "alter function tasker_core_v1.find_tasks_before rename to find_tasks")
  end

  # Claims a step without its payload, as a worker does after the complete claim failed.
  def claim_bare(process)
    ActiveRecord::Base.connection.select_value("select tasker_core_v1.claim_steps(#{process}, '{*}', 1, 0, true)::text")
  end
end

RSpec.configure { |config| config.include Damage }
