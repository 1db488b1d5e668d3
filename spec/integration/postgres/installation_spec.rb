# frozen_string_literal: true

# Privileges and settings of functions and tables survive the installation of another set of functions.
RSpec.describe TaskerCore::Postgres::Functions::Installation do
  let(:connection) { ActiveRecord::Base.connection }

  around do |example|
    connection.transaction do
      connection.execute("create role app; create role auditor; create role dba superuser")
      example.run
      raise ActiveRecord::Rollback
    end
  end

  def run(sql) = connection.execute(sql)

  def value(sql) = connection.uncached { connection.select_value("select #{sql}") }

  def may?(role, function) = value("has_function_privilege('#{role}', 'tasker_core_v1.#{function}', 'execute')")

  def attribute(function, what)
    value("(select #{what} from pg_proc where oid = 'tasker_core_v1.#{function}'::regprocedure)")
  end

  # As a deploy of another version does.
  def reinstall
    run("comment on schema tasker_core_v1 is 'an older set'")
    TaskerCore::Postgres::Functions.install!(connection)
    expect(TaskerCore::Postgres::Functions).to be_installed(connection)
  end

  it "keeps privileges, owners and comments" do
    run("grant usage on schema tasker_core_v1 to app; revoke execute on all functions in schema " \
        "tasker_core_v1 from public")
    run("grant execute on all functions in schema tasker_core_v1 to app; grant execute on function " \
        "tasker_core_v1.audit to auditor with grant option")
    run("comment on function tasker_core_v1.audit is 'ours'; alter function tasker_core_v1.audit owner to dba; alter " \
        "schema tasker_core_v1 owner to dba")
    oid = value("'tasker_core_v1.sweep'::regproc::oid")
    reinstall
    expect(value("has_schema_privilege('app', 'tasker_core_v1', 'usage')")).to be true
    claim_steps = "claim_steps(bigint, text[], integer, integer, boolean, interval)"
    expect([may?("app", claim_steps), may?("auditor", claim_steps)]).to eq [true, false]
    expect(value("has_function_privilege('auditor', 'tasker_core_v1.audit(bigint, integer)', " \
                 "'execute with grant option')")).to be true
    expect(value("obj_description('tasker_core_v1.audit'::regproc, 'pg_proc')")).to eq "ours"
    expect(attribute("audit(bigint, integer)", "pg_get_userbyid(proowner)")).to eq "dba"
    expect(value("(select pg_get_userbyid(nspowner) from pg_namespace where nspname = 'tasker_core_v1')")).to eq "dba"
    expect(value("'tasker_core_v1.sweep'::regproc::oid")).to eq oid
  end

  it "passes privileges to a function with a new signature" do
    run("drop function tasker_core_v1.current_time; create function tasker_core_v1.current_time() returns text " \
        "language sql as 'select 1::text'")
    run("revoke execute on function tasker_core_v1.current_time from public; grant execute on function " \
        "tasker_core_v1.current_time to app with grant option")
    run("alter function tasker_core_v1.current_time owner to dba; comment on function " \
        "tasker_core_v1.current_time is 'ours'")
    reinstall
    expect(attribute("current_time()", "prorettype::regtype::text")).to eq "timestamp with time zone"
    expect([may?("app", "current_time()"), may?("auditor", "current_time()")]).to eq [true, false]
    expect(attribute("current_time()", "pg_get_userbyid(proowner) || ' ' || obj_description(oid, 'pg_proc')"))
      .to eq "dba ours"
  end

  it "grants a new function like the others, drops removed ones" do
    run("create function tasker_core_v1.gone(integer) returns integer language sql as 'select 1'; drop function " \
        "tasker_core_v1.audit")
    run("revoke execute on all functions in schema tasker_core_v1 from public; grant execute on all functions in " \
        "schema tasker_core_v1 to app")
    reinstall
    expect(value("to_regproc('tasker_core_v1.gone') is null")).to be true
    expect([may?("app", "audit(bigint, integer)"), may?("auditor", "audit(bigint, integer)")]).to eq [true, false]
  end

  it "keeps settings of functions that the gem does not set" do
    run("alter function tasker_core_v1.audit security definer set search_path = public, \"Odd one\" set work_mem " \
        "= '5MB' set jit = on")
    reinstall
    expect(attribute("audit(bigint, integer)", "prosecdef")).to be true
    settings = attribute("audit(bigint, integer)", "array_to_string(proconfig, '; ')").split("; ")
    expect(settings).to include('search_path=public, "Odd one"', "work_mem=5MB", "jit=off", "enable_seqscan=off")
  end

  it "keeps settings of tables and adds missing ones" do
    run("alter table tasker_tasks set (fillfactor = 70); alter table tasker_ready_steps set " \
        "(autovacuum_vacuum_threshold = 77)")
    run("alter table tasker_ready_steps reset (autovacuum_vacuum_cost_delay)")
    options = lambda do |table|
      value("(select array_to_string(reloptions, '; ') from pg_class where oid = '#{table}'::regclass)").split("; ")
    end
    reinstall
    expect(options.call("tasker_tasks")).to eq ["fillfactor=70"]
    expect(options.call("tasker_ready_steps"))
      .to contain_exactly("autovacuum_vacuum_threshold=77", "autovacuum_vacuum_scale_factor=0",
                          "autovacuum_vacuum_cost_delay=0")
    expect(options.call("tasker_processes")).to eq ["fillfactor=50"]
  end

  it "refuses to drop functions that other objects use" do
    run("create view ready_now as select * from tasker_core_v1.system_health()")
    reinstall
    expect(value("(select count(*) from ready_now)")).to eq 1
    run("create function tasker_core_v1.gone() returns integer language sql as 'select 1'; create view on_gone as " \
        "select tasker_core_v1.gone()")
    expect { connection.transaction(requires_new: true) { reinstall } }
      .to raise_error(TaskerCore::DatabaseError,
                      /function tasker_core_v1\.gone\(\).*view on_gone depends on .*drop the dependent objects/)
    expect(value("to_regclass('on_gone') is not null")).to be true
  end
end
