# frozen_string_literal: true

require "yaml"

module Fleet
  # Solid Queue: a supervisor with a worker and a dispatcher. A job that runs when its worker is killed fails.
  class SolidQueue < DatabaseBackend
    NAME = "solid_queue"
    TABLES = /\Asolid_queue_/
    JOBS = "solid_queue_jobs"

    def prepare
      create_tables
      FileUtils.mkdir_p("#{@directory}/bin")
      FileUtils.cp(templates("install/templates/bin/jobs"), "#{@directory}/bin/jobs")
      File.write("#{@directory}/queue.yml",
                 YAML.dump("workers" => [worker], "dispatchers" => [{ "batch_size" => 500 }]))
      self
    end

    def unfinished
      sql("select count(*) from solid_queue_jobs j where finished_at is null and not exists " \
          "(select from solid_queue_failed_executions f where f.job_id = j.id)").getvalue(0, 0).to_i
    end

    def duplicate_jobs
      sql(<<~SQL)
        with copy as (
          insert into solid_queue_jobs
            (queue_name, class_name, arguments, priority, active_job_id, scheduled_at, created_at, updated_at)
          select j.queue_name, class_name, arguments, j.priority, active_job_id, scheduled_at, j.created_at, updated_at
          from solid_queue_jobs j join solid_queue_ready_executions r on r.job_id = j.id
          returning id, queue_name, priority, created_at
        )
        insert into solid_queue_ready_executions (job_id, queue_name, priority, created_at) select * from copy
      SQL
    end

    private

    # The schema file records itself as migration 1.
    def create_tables
      quietly { load templates("install/templates/db/queue_schema.rb") }
      sql("delete from schema_migrations where version = '1'")
    end

    def worker = { "queues" => @queues, "threads" => @threads, "polling_interval" => 0.1 }

    def storage_variables
      { "SOLID_QUEUE_CONFIG" => "#{@directory}/queue.yml", "SOLID_QUEUE_SKIP_RECURRING" => "true" }
    end

    def command = ruby("bin/jobs", "start")
  end
end
